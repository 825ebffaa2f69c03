# Asks over HTTPS as the External Secrets Operator does: a URL made of a template, whose values are escaped for a query, a
# bearer's header, one connection for all. Requests come as JSON on standard input, answers go to standard output.
import http.client
import json
import os
import ssl
import sys
from urllib.parse import quote_plus

TEMPLATE = "/v1/secret?path={key}&property={property}&version={version}"

host, port = os.environ["HOST"].rsplit(":", 1)
context = ssl.create_default_context(cafile=os.environ["CA"])
assert context.minimum_version <= ssl.TLSVersion.TLSv1_3


connection = http.client.HTTPSConnection(
    host, int(port), context=context, timeout=60, source_address=(os.environ["SOURCE"], 0)
)


def ask(request):
    path = request.get("path")
    if path is None:
        remote = {name: quote_plus(request.get(name, "")) for name in ("key", "property", "version")}
        path = TEMPLATE.format(**remote)
    connection.putrequest(request.get("method", "GET"), path)
    for name, value in request.get("headers", []):
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    body = answer.read()
    return {
        "status": answer.status,
        "headers": {name.lower(): value for name, value in answer.getheaders()},
        "body": json.loads(body) if body else None,
    }


json.dump([ask(request) for request in json.load(sys.stdin)], sys.stdout)
