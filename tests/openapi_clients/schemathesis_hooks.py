"""What schemathesis cannot know of the daemon from a schema."""

import re

import schemathesis

DURATION = re.compile(r"(0|[0-9]+(ms|s|m|h))$")
OPTIONAL = ("key", "key_base64", "encoding", "revision", "ttl")


@schemathesis.hook
def map_query(context, query):
    """No request waits for a change that does not come."""
    if context.operation.label.endswith("/next"):
        query = dict(query or {})
        if DURATION.match(str(query.get("wait", "0"))):
            query["wait"] = "0"
    return query


@schemathesis.hook
def filter_case(context, case):
    """Leaves out what JSON Schema and the protocol see differently: `null` is as if the member were left out, and 1.0
    is no whole number."""
    records = case.body if isinstance(case.body, list) else []
    members = [record.get(name, "") for record in records if isinstance(record, dict) for name in OPTIONAL]
    return not any(member is None or isinstance(member, float) for member in members)
