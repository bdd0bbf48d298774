"""What the operator sees of the work a server does by itself."""

import json

from conftest import eventually


def test_collections_run_as_often_as_they_are_asked_for(own_server):
    server = own_server("--collect-interval", "3s", "--sweep-interval", "2s")

    def collected():
        lines = json.loads(server.admin("collections", "--json"))
        return len(lines) >= 3

    eventually(collected, seconds=30)
