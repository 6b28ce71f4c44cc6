"""The exceptions that a caller can act on; each message says what was wrong, what was received and what to do."""


class KerasResnetError(Exception):
    """Base of this package's own errors; the command line prints it as one line and exits with status 1."""


class ArgumentError(KerasResnetError, ValueError):
    """An option of the command line that is out of its range."""


class WeightsError(KerasResnetError, ValueError):
    """Weights that can't be found, read or matched to the network."""


class ImageError(KerasResnetError, ValueError):
    """An image file that can't be read."""


class TrainingError(KerasResnetError, RuntimeError):
    """A training run that must not go on, or can't be resumed."""


class ExportError(KerasResnetError, RuntimeError):
    """A model that can't be exported as asked."""


class VerificationError(ExportError):
    """An artifact that is not equal to its model; it does not get its final name."""


class AccuracyError(VerificationError):
    """An artifact whose accuracy falls too far below its model's; it does not get its final name."""


class MeasurementError(KerasResnetError, RuntimeError):
    """A measurement that failed or gave no answer."""


class MissingDependencyError(KerasResnetError, ImportError):
    """An optional package that is not installed; the message names the extra that brings it."""


def reason(error: BaseException) -> str:
    """Another library's exception -> the first line of its message, or its type where it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
