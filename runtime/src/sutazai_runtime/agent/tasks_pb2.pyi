from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class SubmitRequest(_message.Message):
    __slots__ = ("tenant_id", "agent_id", "prompt", "task_id", "wait_seconds")
    TENANT_ID_FIELD_NUMBER: _ClassVar[int]
    AGENT_ID_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    WAIT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    tenant_id: int
    agent_id: str
    prompt: str
    task_id: str
    wait_seconds: float
    def __init__(self, tenant_id: _Optional[int] = ..., agent_id: _Optional[str] = ..., prompt: _Optional[str] = ..., task_id: _Optional[str] = ..., wait_seconds: _Optional[float] = ...) -> None: ...

class GetRequest(_message.Message):
    __slots__ = ("task_id",)
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    task_id: str
    def __init__(self, task_id: _Optional[str] = ...) -> None: ...

class Answer(_message.Message):
    __slots__ = ("task_id", "status", "output", "reason", "backend")
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    BACKEND_FIELD_NUMBER: _ClassVar[int]
    task_id: str
    status: str
    output: str
    reason: str
    backend: str
    def __init__(self, task_id: _Optional[str] = ..., status: _Optional[str] = ..., output: _Optional[str] = ..., reason: _Optional[str] = ..., backend: _Optional[str] = ...) -> None: ...
