"""The objects of a stream of YAML on standard input, as one JSON list. A member that is there twice is an error."""

import json
import sys

import yaml


class Loader(yaml.SafeLoader):
    def construct_mapping(self, node, deep=False):
        keys = [key.value for key, _ in node.value]
        twice = {key for key in keys if keys.count(key) > 1}
        if twice:
            raise SystemExit(f"{twice} twice in one mapping, {node.start_mark}")
        return super().construct_mapping(node, deep)


json.dump([item for item in yaml.load_all(sys.stdin, Loader) if item is not None], sys.stdout)
