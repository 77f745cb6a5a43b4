"""configurable-http-proxy's Python port with host routing, which it takes as an option and does not do."""

from __future__ import annotations

import sys
from typing import Any

from configurable_http_proxy import cli
from configurable_http_proxy.configproxy import PythonProxy
from configurable_http_proxy.handlers import ProxyHandler

by_host_and_path = PythonProxy.target_for_req
get_target_url = ProxyHandler.get_target_url


async def get_target_url_by_host(self: Any, path: str) -> Any:
    self.proxy.target_for_req = lambda _host, path: by_host_and_path(self.proxy, self.request.host_name, "/" + path.lstrip("/"))
    return await get_target_url(self, path)  # asks for the target before it waits for anything


if __name__ == "__main__":
    ProxyHandler.get_target_url = get_target_url_by_host
    cli.main([*sys.argv[1:], "true"])  # the option wants an argument here, and has none in the npm one
