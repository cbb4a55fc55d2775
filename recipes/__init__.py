"""Recipes for data sets, on SpeechBrain."""

import logging
import warnings

warnings.filterwarnings("ignore", category=FutureWarning)
warnings.filterwarnings("ignore", category=UserWarning, module="speechbrain")
logging.getLogger("speechbrain.utils.train_logger").setLevel(logging.ERROR)  # it misses torchvision, to save figures with
