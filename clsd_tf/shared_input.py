"""One input tensor for all signatures that take `tf.train.Example`s.

`tf.saved_model.save` gives every signature placeholders of its own. The MultiInference API of
TensorFlow Serving computes several signatures of the same examples at once and takes only those
that read the same tensor; this makes them do so.
"""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

from tensorflow.core.protobuf import saved_model_pb2

_SAVED_MODEL, _FINGERPRINT = "saved_model.pb", "fingerprint.pb"
_INPUT = "inputs"


def share_input(directory: pathlib.Path, signature: str, others: Sequence[str]) -> None:
    """Lets signatures read the input of another one.

    Args:
      directory: a SavedModel that is not served yet: it is changed in place.
      signature: whose `inputs` is read.
      others: signatures whose own `inputs` goes away.
    """
    path = directory / _SAVED_MODEL
    saved = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    (graph,) = saved.meta_graphs
    kept = graph.signature_def[signature].inputs[_INPUT].name
    renamed = {}
    for other in others:
        renamed[_node(graph.signature_def[other].inputs[_INPUT].name)] = _node(kept)
        graph.signature_def[other].inputs[_INPUT].name = kept
    left = [node for node in graph.graph_def.node if node.name not in renamed]
    for node in left:
        inputs = [renamed.get(name, name) for name in node.input]
        del node.input[:]
        node.input.extend(inputs)
    del graph.graph_def.node[:]
    graph.graph_def.node.extend(left)
    path.write_bytes(saved.SerializeToString(deterministic=True))
    # It holds hashes of the graph as it was. A SavedModel without one is whole.
    (directory / _FINGERPRINT).unlink(missing_ok=True)


def _node(tensor: str) -> str:
    return tensor.partition(":")[0]
