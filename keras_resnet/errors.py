"""Exceptions on which a caller can act. Each message names the error, the value received and what to do."""

from keras_resnet.printable import printable


class KerasResnetError(Exception):
    """Base of this package's errors. The command line prints only the message, and exits with status 1.

    Each argument is a line. An end of line inside of one comes from a file, and is printed as an escape sequence.
    """

    def __str__(self) -> str:
        return "\n".join(map(str, self.args))

    @property
    def lines(self) -> list[str]:
        """The message, ready for a terminal."""
        return [printable(line) for line in self.args]


class ArgumentError(KerasResnetError, ValueError):
    """An invalid argument or command-line option."""


class WeightsError(KerasResnetError, ValueError):
    """The weights can't be found, read or matched to the network."""


class ImageError(KerasResnetError, ValueError):
    """An image file can't be read."""


class ImageTooLargeError(ImageError):
    """An image has more pixels than the limit."""


class RequestError(KerasResnetError, ValueError):
    """A request to the server does not have the form of its protocol."""


class TrainingError(KerasResnetError, RuntimeError):
    """A training run must stop, or can't be resumed."""


class ExportError(KerasResnetError, RuntimeError):
    """A model can't be exported with the given options."""


class VerificationError(ExportError):
    """An artifact differs from its model; the artifact does not get its final name."""


class AccuracyError(VerificationError):
    """An artifact is too much less accurate than its model; the artifact does not get its final name."""


class SignatureError(ExportError):
    """An artifact has no signature of the expected key, or has changed since it was signed."""


class MeasurementError(KerasResnetError, RuntimeError):
    """A measurement failed or gave no result."""


class MissingDependencyError(KerasResnetError, ImportError):
    """A package is not installed; the message says how to install it."""


def reason(error: BaseException) -> str:
    """Another library's exception -> first line of its message, or its type if it has no message."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
