"""A client of the Workload API that none of us wrote: what it is given at SPIFFE_ENDPOINT_SOCKET, one line of JSON a version.

client.py N: the first N versions of the X.509-SVID, then the end."""

import json
import queue
import sys

from cryptography.hazmat.primitives.serialization import Encoding
from spiffe import WorkloadApiClient


def main() -> None:
    versions = queue.Queue()
    client = WorkloadApiClient()
    stream = client.stream_x509_contexts(versions.put, versions.put)
    for _ in range(int(sys.argv[1])):
        context = versions.get(timeout=60)
        if isinstance(context, Exception):
            sys.exit(f"{type(context).__name__}: {context}")
        svid = context.default_svid
        bundle = context.x509_bundle_set.get_bundle_for_trust_domain(svid.spiffe_id.trust_domain)
        print(
            json.dumps(
                {
                    "id": str(svid.spiffe_id),
                    "serial": format(svid.leaf.serial_number, "x"),
                    "life": int((svid.leaf.not_valid_after_utc - svid.leaf.not_valid_before_utc).total_seconds()),
                    "authorities": [a.public_bytes(Encoding.PEM).decode() for a in bundle.x509_authorities],
                }
            ),
            flush=True,
        )
    stream.cancel()
    client.close()


main()
