"""What `celery -A sutazai_runtime.tasks.monitor flower` loads: the app without its tasks, to watch the workers through the broker."""

from __future__ import annotations

import sys

from pydantic import ValidationError

from sutazai_runtime.settings import BrokerSettings, CannotStart
from sutazai_runtime.tasks.app import create_app
from sutazai_runtime.tasks.routing import TaskSettings

try:
    app = create_app(TaskSettings.load(), BrokerSettings.load())
except (CannotStart, ValidationError) as error:
    sys.exit(f"The workers can't be watched: {error}")
