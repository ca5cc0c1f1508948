"""Sends every example of the API's own description as it stands, and asks for every GET."""
import json, sys, urllib.error, urllib.request

base, key = sys.argv[1], sys.argv[2]

def send(method, path, body=None, headers=()):
    request = urllib.request.Request(base + path, method=method)
    for name, value in headers:
        request.add_header(name, value)
    request.add_header("authorization", f"Bearer {key}")
    data = None
    if body is not None:
        data = json.dumps(body).encode()
        request.add_header("content-type", "application/json")
    try:
        with urllib.request.urlopen(request, data) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()

document = json.loads(send("GET", "/openapi.json")[1])
wrong, sent = [], 0
order = {"post": 0, "get": 1}
for path, item in document["paths"].items():
    for method, operation in sorted(item.items(), key=lambda pair: order.get(pair[0], 2)):
        if method not in order:
            continue
        body = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
        example = body.get("example")
        if example is None and "$ref" in body.get("schema", {}):
            name = body["schema"]["$ref"].rsplit("/", 1)[1]
            example = document["components"]["schemas"][name].get("example")
        if method == "post" and example is None and "requestBody" in operation:
            wrong.append(f"POST {path}: no example")
            continue
        at = path
        if "{" in path:
            if path.startswith("/api/v1/providers/"):
                at = path.replace("{id}", "local")
            elif "/models/" in path:
                at = path.replace("{id}", "fast")
            else:
                continue
        given = [one for one in operation.get("parameters", []) if one["in"] == "header"]
        headers = [(one["name"], one["example"]) for one in given if "example" in one]
        status, answer = send(method.upper(), at, example, headers)
        sent += 1
        if str(status) not in operation["responses"] or status >= 400:
            wrong.append(f"{method.upper()} {at}: {status} {answer[:200]!r}")
print(f"{sent} sent, {len(wrong)} not answered as described")
print("\n".join(wrong))
sys.exit(bool(wrong))
