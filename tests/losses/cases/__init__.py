"""A case of the battery for every public loss."""

from tests.losses.cases.data_free import DATA_FREE
from tests.losses.cases.embeddings import EMBEDDINGS
from tests.losses.cases.features import FEATURES
from tests.losses.cases.labelled import LABELLED
from tests.losses.cases.logits import LOGITS
from tests.losses.cases.relations import RELATIONS

CASES = {**LOGITS, **LABELLED, **FEATURES, **RELATIONS, **EMBEDDINGS, **DATA_FREE}
