"""Recipes for data sets, on SpeechBrain."""

import logging
import warnings

warnings.filterwarnings("ignore", category=FutureWarning)
warnings.filterwarnings("ignore", category=UserWarning, module="speechbrain")
# It misses torchvision, to save figures with. A filter, as SpeechBrain sets the level itself when the module is imported.
logging.getLogger("speechbrain.utils.train_logger").addFilter(lambda record: "torchvision" not in record.getMessage())
