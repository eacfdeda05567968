"""What the host calls: each stage goes to the function of filter.py. There is nothing here to change."""

import filter as plugin
from componentize_py_types import Err, Ok



def ask(function, *arguments):
    """An exception is an orderly failure: the operator's on-fault speaks, nothing that was asked for takes effect, and the instance lives on."""
    try:
        return Ok(function(*arguments))
    except Exception as error:
        at = error.__traceback__.tb_next or error.__traceback__
        while at.tb_next:
            at = at.tb_next
        return Err(f"{type(error).__name__}: {error} (line {at.tb_lineno} of {at.tb_frame.f_code.co_filename})")


class Lifecycle:
    def init(self):
        try:
            return plugin.init()
        except Exception as error:
            raise Err(str(error)) from error


class OnConnect:
    def connect(self):
        return ask(plugin.on_connect)


class OnHelo:
    def helo(self, name, esmtp):
        return ask(plugin.on_helo, name, esmtp)


class OnMail:
    def mail(self, sender):
        return ask(plugin.on_mail, sender)


class OnRcpt:
    def check(self, recipient):
        return ask(plugin.on_rcpt, recipient)


class OnRcptBatch:
    def check_all(self, recipients):
        return [ask(plugin.on_rcpt, recipient) for recipient in recipients]


class OnData:
    def data(self):
        return ask(plugin.on_data)


class OnHeaders:
    def headers(self):
        return ask(plugin.on_headers)


class OnMessage:
    def message(self):
        return ask(plugin.on_message)


class OnQueue:
    def enqueue(self, queue_id):
        return ask(plugin.on_queue, queue_id)


class OnTimer:
    def tick(self):
        plugin.on_timer()


class OnCommand:
    def command(self, name, argument):
        try:
            return plugin.on_command(name, argument)
        except Exception as error:
            raise Err(str(error)) from error
