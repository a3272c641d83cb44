# SPDX-License-Identifier: Apache-2.0
"""The one exception that the store raises by itself."""


class Error(Exception):
    """A call failed as a whole. A page that could not be stored or read never raises: its status says so.

    Wrong arguments that are seen before the library is called (counts that do not match, negative sizes, a buffer that
    is read-only) raise TypeError or ValueError instead.

    Attributes:
        code: one of varve.E_ARG (fix the caller; also: the store is closed), E_NOMEM, E_IO, E_NOSPC, E_CORRUPT,
            E_VERSION, E_LOCKED (another process has the store, and does not share it), E_READONLY, E_NOSTORE, E_TIMEOUT.
        message: one line: what failed, and what to do.
        os_errno: errno of the operating system, 0 where it said nothing.
    """

    code: int
    message: str
    os_errno: int

    def __init__(self, code: int, message: str, os_errno: int = 0) -> None:
        super().__init__(code, message, os_errno)  # all of it: so it can be pickled
        self.code = code
        self.message = message
        self.os_errno = os_errno

    def __str__(self) -> str:
        return self.message
