"""`sutazai-registrar`: runs on each host of the Swarm. Settings are in the environment."""

from __future__ import annotations

import logging
import signal
import sys

from pydantic import ValidationError

from sutazai_runtime.registrar.service import Registrar
from sutazai_runtime.registrar.settings import RegistrarSettings
from sutazai_runtime.settings import CannotStart, ConsulSettings, read_secret


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        consul = ConsulSettings.load()
        if consul.token_file:
            read_secret(consul.token_file, "SUTAZAI_CONSUL_TOKEN_FILE")
        registrar = Registrar(RegistrarSettings.load(), consul)
    except (CannotStart, ValidationError) as error:
        sys.exit(f"The registrar can't start: {error}")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_arguments: registrar.end())
    registrar.run()


if __name__ == "__main__":
    main()
