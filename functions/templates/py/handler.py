"""{{name}}: answers as its adapter does, streamed."""

from wit_world import exports
from wit_world.imports import log, model, reply
from wit_world.imports.types import Message, Request, Route


def asked(request: Request) -> model.Input:
    """What the caller asked for: the conversation, the prompt as it stands, or the body of an `invoke`."""
    if request.route == Route.CHAT:
        return model.Input_Chat(request.messages)
    if request.route == Route.COMPLETION:
        return model.Input_Raw(request.prompt)
    return model.Input_Chat([Message("user", request.body.decode())])


class Handler(exports.Handler):
    def handle(self, request: Request) -> None:
        """Answers one request. `raise Err(Failure(code, message))` becomes an error of the call."""
        task = model.Task(asked(request), request.params, model.Shape_Free(), None, None)
        with model.Generation(task) as generation:
            while (event := generation.next()) is not None:
                if event.value.text:
                    reply.write(event.value.text)
                if isinstance(event, model.Event_End):
                    if event.value.reason == model.Reason.LENGTH:
                        reply.finish("length")
                    log.write(log.Level.INFO, f"{event.value.completion_tokens} tokens")
