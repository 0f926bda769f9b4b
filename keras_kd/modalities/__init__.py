"""Several modalities in one model: the audio front end, modalities left out at random, reference models."""

from keras_kd.modalities.fusion import fusion_model
from keras_kd.modalities.log_mel import LogMel
from keras_kd.modalities.modality_dropout import ModalityDropout
from keras_kd.modalities.presence import KeepPresent, PresentSoftmax
from keras_kd.modalities.transfer import Transfer, TransferReport, transfer_report

__all__ = [
    "KeepPresent",
    "LogMel",
    "ModalityDropout",
    "PresentSoftmax",
    "Transfer",
    "TransferReport",
    "fusion_model",
    "transfer_report",
]
