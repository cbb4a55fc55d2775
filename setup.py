"""Installs `modules/` under the import name `speech_attention`; recipes, YAML and results stay in the checkout."""

from setuptools import setup

setup(
    name="speech-attention",
    version="0.1.0",
    description="Attention for speech under limits of latency, memory and compute: SpeechBrain recipes for LibriSpeech",
    license="Apache-2.0",
    python_requires=">=3.10",
    package_dir={"speech_attention": "modules"},
    packages=["speech_attention", "speech_attention.attention", "speech_attention.front_end", "speech_attention.objectives"],
    install_requires=[
        "torch>=2.11,<2.15",  # speechbrain alone resolves to a torch that torchaudio's last release cannot load
        "torchaudio>=2.11,<2.12",
        "speechbrain>=1.1.2,<1.2",
        "hyperpyyaml>=1.2.3",  # 1.2.2 lets in a ruamel.yaml that breaks it
        "ruamel.yaml",
        "numpy",
        "soundfile>=0.12",
        "jiwer>=3.0",
        "requests",
        "huggingface_hub",  # public encoders; both come with speechbrain
        "safetensors",
        "sentencepiece>=0.2",  # comes with speechbrain, too
        "tqdm",
        "espeakng-loader>=0.2.4,<0.3",  # the voices of the embedded corpus
    ],
    extras_require={
        "figures": ["matplotlib>=3.8"],
        "microphone": ["sounddevice>=0.4.6"],
        "alignments": ["praatio>=6.2,<7"],  # TextGrids
        "lm": ["flashlight-text>=0.0.7; python_version < '3.13'"],  # with KenLM inside; no wheels for later Pythons
        "export": ["onnx>=1.20", "onnxscript>=0.7.2"],  # 0.7.1 cannot translate repeat_interleave
        "peers": ["transformers>=5", "local-attention>=1.11"],  # what results.speed.limits has beside our layers
        "engines": ["onnx>=1.20", "onnxscript>=0.7.2", "onnxruntime>=1.22"],
        "tensorboard": ["tensorboard>=2.16"],
        "test": [
            "pytest>=8",
            "ruff>=0.17.6,<0.18",  # another version may format otherwise
            "mypy>=2.4,<2.5",  # another version may find other errors
            "matplotlib>=3.8",
            "praatio>=6.2,<7",
            "onnx>=1.20",
            "onnxscript>=0.7.2",
            "onnxruntime>=1.22",
            "flashlight-text>=0.0.7; python_version < '3.13'",
            "tensorboard>=2.16",
            "transformers>=5",  # public encoders equal its
        ],
    },
)
