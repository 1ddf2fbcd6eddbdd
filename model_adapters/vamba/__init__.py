"""Vamba: Qwen2-VL with the video in cross-attention and Mamba-2 instead of the text sequence."""

from .adapter import VambaAdapter
from .attention import VideoMemory
from .configuration import VambaConfig
from .modeling import VambaForConditionalGeneration
from .processing import VambaProcessor

__all__ = ["VambaAdapter", "VambaConfig", "VambaForConditionalGeneration", "VambaProcessor", "VideoMemory"]
