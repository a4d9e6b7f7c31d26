"""Prints each change of the state, for ever: python3 examples/follow.py http://localhost:7811"""
import http.client, json, sys, time, urllib.error, urllib.parse, urllib.request

base = sys.argv[1] if len(sys.argv) > 1 else "http://localhost:7811"
url = current = base + "/v1/breadcrumbs/current"
while True:
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:  # the daemon waits up to 29 s for a change
            body = json.load(answer) if answer.status == 200 else {}  # 204: no change
            url = urllib.parse.urljoin(url, answer.headers["Link"].split(">")[0][1:])
        for record in body.get("entries", []) + body.get("updates", []):
            print(json.dumps(record), flush=True)
    except urllib.error.HTTPError as error:
        if error.code == 410:  # the cursor is gone: read the whole state again
            url = current
        elif error.code == 429 or error.code >= 500:  # not now
            time.sleep(float(error.headers["Retry-After"] or 1))
        else:
            sys.exit(f"{error}: {error.read().decode()}")
    except (OSError, ValueError, AttributeError, http.client.HTTPException):  # no answer, or a part of one
        time.sleep(1)
