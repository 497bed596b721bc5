#!/usr/bin/env python3
"""What the Kubernetes API publishes about its kinds, as strict JSON Schema: without descriptions, unknown fields refused.

schema.py SWAGGER.json VERSION DEFINITION... > schema.json   some definitions and all that they reach, in one file
schema.py SWAGGER.json VERSION --folder DIR                  one file a kind, named as kubeconform looks for it

SWAGGER.json is api/openapi-spec/swagger.json of the Go module k8s.io/kubernetes."""
import json
import os
import sys

DROP = ("description", "x-kubernetes-", "format", "example", "title")


def strict(node):
    """A schema without prose, closed where it lists its properties."""
    if isinstance(node, list):
        return [strict(item) for item in node]
    if not isinstance(node, dict):
        return node
    if node.get("format") == "int-or-string":
        return {"type": ["integer", "string"]}
    out = {}
    for key, value in node.items():
        if key == "properties":
            out[key] = {name: strict(schema) for name, schema in value.items()}
        elif key == "$ref" and isinstance(value, str):
            out[key] = value.replace("#/definitions/", "#/$defs/")
        elif key != "default" and not key.startswith(DROP):
            out[key] = strict(value)
    if "properties" in out:
        out["additionalProperties"] = False
    return out


def references(node):
    """Names of the definitions that a node reaches directly."""
    if isinstance(node, dict):
        # A property may have that name too.
        if isinstance(node.get("$ref"), str):
            yield node["$ref"].rsplit("/", 1)[1]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def closed(definitions, version, wanted):
    """One schema that holds these definitions and all that they reach."""
    wanted, kept = list(wanted), {}
    while wanted:
        name = wanted.pop()
        if name not in kept:
            kept[name] = strict(definitions[name])
            wanted.extend(references(definitions[name]))
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$comment": f"Kubernetes {version}, made by ops/kube/schema.py",
        "$defs": dict(sorted(kept.items())),
    }


def main():
    swagger, version, rest = sys.argv[1], sys.argv[2], sys.argv[3:]
    definitions = json.load(open(swagger, encoding="utf-8"))["definitions"]
    # A quantity is a text or a number on the wire, which the description says and the type does not.
    definitions["io.k8s.apimachinery.pkg.api.resource.Quantity"] = {"type": ["string", "number"]}
    if rest[0] != "--folder":
        json.dump(closed(definitions, version, rest), sys.stdout, indent=1, sort_keys=True)
        print()
        return
    for name, definition in definitions.items():
        for kind in definition.get("x-kubernetes-group-version-kind", [])[:1]:
            group = kind["group"].split(".")[0]
            file = "-".join(part for part in (kind["kind"].lower(), group, kind["version"]) if part) + ".json"
            schema = closed(definitions, version, [name]) | {"$ref": f"#/$defs/{name}"}
            with open(os.path.join(rest[1], file), "w", encoding="utf-8") as out:
                json.dump(schema, out, sort_keys=True)


main()
