"""schemas.py VERSION…: what the published schemas of these versions of Kubernetes say of the objects on standard input (a JSON
list). One line for each problem. Unknown members are problems, and so are objects without a schema."""

import functools
import json
import sys

from kubernetes_validate import utils

# Each schema is a file of a megabyte or so.
utils.schema_contents = functools.lru_cache(None)(utils.schema_contents)

for item in json.load(sys.stdin):
    for version in sys.argv[1:]:
        try:
            utils.validate(item, version, strict=True)
        except (utils.ValidationError, utils.SchemaNotFoundError) as problem:
            at = "/".join(map(str, getattr(problem, "path", [])))
            print(f"{item['kind']} {item['metadata']['name']}, Kubernetes {version}: {at}: {problem.message}")
