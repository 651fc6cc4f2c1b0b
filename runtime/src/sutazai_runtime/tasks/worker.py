"""What `celery -A sutazai_runtime.tasks.worker` loads: the app with settings from the environment.

One worker for each queue, with `-Q` and a node name of its own; one process (`--concurrency 1`) for partitions, whose order it would
otherwise not keep. On SIGTERM it finishes what it has begun.
"""

from __future__ import annotations

import sys

from pydantic import ValidationError

from sutazai_runtime.inference import backend_of
from sutazai_runtime.settings import BrokerSettings, CannotStart, InferenceSettings, RedisSettings
from sutazai_runtime.tasks.app import check_tasks, create_app
from sutazai_runtime.tasks.routing import TaskSettings
from sutazai_runtime.tasks.work import Tools, register

try:
    _settings = TaskSettings.load()
    _inference = InferenceSettings.load()
    backend_of(_inference)
    app = create_app(_settings, BrokerSettings.load())
    register(app, _settings, Tools(RedisSettings.load(), _inference))
    app.loader.import_default_modules()
    check_tasks(app, _settings)
except (CannotStart, ValidationError) as error:
    sys.exit(f"The worker can't start: {error}")
