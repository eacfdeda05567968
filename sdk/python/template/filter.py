"""Refuses attachments by the type that their names show, inside zip archives, too: a program called invoice.pdf.exe is refused,
and so is a zip that holds one. Only the directory of an archive is read, so a large one costs no more than a small one.

Stage message. No grants. Settings, all of them optional:

    [plugin.attachment-types.config]
    blocked = ["exe", "scr", "js"]    # without the dot
    archives = true                   # look into zip files
    fact-only = false                 # state the fact BLOCKED_ATTACHMENT instead of refusing
"""

import encodings.cp437  # noqa: F401: zipfile asks for it by name, and there are no files to import from later
import io
import zipfile

from waypost import NEXT, Registration, log, message, reject, scores, settings

# What Windows runs when somebody clicks on it.
DEFAULT = "ade adp bat chm cmd com cpl dll exe hta ins isp jar js jse lib lnk mde msc msi msp mst pif ps1 scr sct shb sys vb vbe vbs vxd wsc wsf wsh"

ENTRIES_MAX = 2000

config = {"blocked": DEFAULT.split(), "archives": True, "fact-only": False}


def init():
    """Called once. What is raised here is read by an operator."""
    config.update(settings(known=config))
    config["blocked"] = {extension.lower().lstrip(".") for extension in config["blocked"]}
    return Registration("attachment-types", "0.1.0", only_inbound=True)


def on_message():
    """The message is complete and waits for its reply."""
    for part in message.parts():
        if not part.filename:
            continue
        found = blocked(part.filename) or (config["archives"] and in_archive(part))
        if found:
            return judge(found, part.filename)
    return NEXT


def judge(extension, filename):
    scores.add("BLOCKED_ATTACHMENT", 0.0 if not config["fact-only"] else 5.0, f"{extension}: {filename}"[:200])
    if config["fact-only"]:
        return NEXT
    return reject(550, "5.7.1", f"Attachments of the type .{extension} are not accepted here")


def blocked(filename):
    """The blocked extension that a file of this name would be opened by. Windows does not see dots and blanks at the end."""
    _, dot, extension = filename.lower().rstrip(". ").rpartition(".")
    return extension if dot and extension in config["blocked"] else None


def in_archive(part):
    """The same for the names inside a zip."""
    if not part.filename.lower().endswith(".zip") and "zip" not in part.mime_type:
        return None
    try:
        with zipfile.ZipFile(PartFile(part)) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, OSError) as error:
        log(f"{part.filename} is no zip: {error}")
        return None
    return next(filter(None, map(blocked, names[:ENTRIES_MAX])), None)


class PartFile(io.RawIOBase):
    """A MIME part as a file: what nobody reads does not leave the server."""

    def __init__(self, part):
        self.part, self.at = part, 0

    def seekable(self):
        return True

    def readable(self):
        return True

    def tell(self):
        return self.at

    def seek(self, offset, whence=io.SEEK_SET):
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self.at, io.SEEK_END: self.part.size}[whence]
        if start + offset < 0:
            raise OSError("before the beginning")
        self.at = start + offset
        return self.at

    def readinto(self, buffer):
        data = message.read_part(self.part.path, self.at, min(len(buffer), 65536))
        buffer[: len(data)] = data
        self.at += len(data)
        return len(data)
