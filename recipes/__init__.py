"""Recipes for data sets, on SpeechBrain."""

import logging
import signal
import sys
import warnings

warnings.filterwarnings("ignore", category=FutureWarning)
warnings.filterwarnings("ignore", category=UserWarning, module="speechbrain")
# It misses torchvision, to save figures with. A filter, as SpeechBrain sets the level itself when the module is imported.
logging.getLogger("speechbrain.utils.train_logger").addFilter(lambda record: "torchvision" not in record.getMessage())


def end_silently_at_ctrl_c() -> None:
    """Let Ctrl-C end a command that is still importing without a traceback; from there on `command_line.exit_code` hears it."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # and not ignored, as in the background
        signal.signal(signal.SIGINT, signal.SIG_DFL)


if sys.argv[:1] == ["-m"]:  # while Python looks for the module that `python -m` names
    end_silently_at_ctrl_c()
