"""Renders the chart that is named, once for each object of values on standard input, a JSON list, by Helm itself, and has
each object that comes out checked by the schemas of several releases of Kubernetes. Answers a JSON list: what was rendered
and is wrong, or why the values were refused."""

import json
import sys

import helm_python
import kubernetes_validate
import yaml

# The oldest release that the chart takes, and the newest whose schemas are here.
RELEASES = ["1.29", "1.37"]


def documents(text):
    return [document for document in yaml.safe_load_all(text) if document]


def faults(document):
    found = []
    # Its schema is the Prometheus operator's.
    if document["apiVersion"].startswith("monitoring.coreos.com/"):
        return found
    for release in RELEASES:
        try:
            kubernetes_validate.validate(document, release, strict=True)
        except kubernetes_validate.ValidationError as error:
            found.append(f"{document['kind']} for {release}: {error}")
    return found


def render(path, chart, values):
    try:
        texts = chart.render(values, name="bursar", namespace="bursar")
        lint = helm_python.lint(path, values, strict=True)
    except helm_python.HelmError as error:
        return {"refused": str(error)}
    # That an icon is recommended is told as information.
    found = [message for message in lint["messages"] if message["severity"] > 1] + lint["errors"]
    objects = []
    texts = {name: text for name, text in sorted(texts.items()) if name.endswith(".yaml")}
    for text in texts.values():
        for document in documents(text):
            found += faults(document)
            objects.append(document)
    return {"texts": texts, "objects": objects, "faults": found}


def main():
    path = sys.argv[1]
    with helm_python.Chart.load(path) as chart:
        json.dump([render(path, chart, values) for values in json.load(sys.stdin)], sys.stdout)


main()
