"""Training by PyTorch: one table with sparse gradients for all features, Adagrad."""

from __future__ import annotations

import itertools

import torch
from torch import nn
from training_data import load_batches
from worker_protocol import serve


class ClickModel(nn.Module):
    """MLP, DCN V2 or DIN of the sizes in the options."""

    def __init__(self, backbone: str, columns: list[dict], sizes: dict):
        super().__init__()
        if backbone not in ("mlp", "dcn_v2", "din"):
            raise ValueError(f"Not written here. Received: backbone={backbone}.")
        self.backbone = backbone
        ids = [c for c in columns if c["kind"] == "categorical" and c["length"] is None]
        offsets, rows = {}, 0
        for column in ids:
            offsets[column["table"]] = rows
            rows += column["cardinality"]
        dim = sizes["dim"]
        self.table = nn.Embedding(rows, dim, sparse=True)
        nn.init.uniform_(self.table.weight, -0.05, 0.05)
        self.register_buffer("offsets", torch.tensor([offsets[c["table"]] for c in ids]))
        self.item = next(i for i, c in enumerate(ids) if c["name"] == "item_id")
        histories = [c for c in columns if c["length"] is not None]
        width = dim * (len(ids) + len(histories)) + sum(c["kind"] == "numeric" for c in columns)
        self.cross = nn.ModuleList(
            nn.Linear(width, width)
            for _ in range(sizes["num_cross_layers"] if backbone == "dcn_v2" else 0)
        )
        self.deep = _stack([width, *sizes["units"]])
        if histories:
            attention = [4 * dim, *sizes["attention_units"]]
            self.attention = nn.Sequential(*_stack(attention), nn.Linear(attention[-1], 1))
        joined = sizes["units"][-1] + (width if self.cross else 0)
        self.head = nn.Linear(joined, 1)

    def forward(self, ids, numbers, history=None):
        """Logits [batch] of ids [batch, columns], numbers [batch, columns], and a history."""
        vectors = self.table(ids + self.offsets)
        parts = [vectors.flatten(1)]
        if history is not None:
            keys = self.table(history + self.offsets[self.item])
            query = vectors[:, self.item : self.item + 1].expand_as(keys)
            pairs = torch.cat([query, keys, query - keys, query * keys], dim=-1)
            relevance = self.attention(pairs) * (history > 0).unsqueeze(-1)
            parts.append((relevance * keys).sum(1))
        flat = crossed = torch.cat([*parts, numbers], dim=1)
        for layer in self.cross:
            crossed = flat * layer(crossed) + crossed
        hidden = self.deep(flat)
        return self.head(torch.cat([crossed, hidden], 1) if self.cross else hidden).squeeze(1)


class TorchTraining:
    """Options: "backbone", "sizes", "optimizer" (adagrad)."""

    def prepare(self, options: dict) -> dict:
        """Builds the model and loads batches."""
        if options["optimizer"] != "adagrad":
            raise ValueError(f"Only Adagrad is sparse here. Received: {options['optimizer']}.")
        columns, arrays, labels = load_batches(options)
        tensors = {name: torch.from_numpy(values) for name, values in arrays.items()}

        def side_by_side(kind: str) -> torch.Tensor:
            chosen = [c for c in columns if c["kind"] == kind and c["length"] is None]
            return torch.stack([tensors[c["name"]] for c in chosen], dim=1)

        inputs = [side_by_side("categorical"), side_by_side("numeric")]
        inputs += [tensors[c["name"]] for c in columns if c["length"] is not None]
        inputs.append(torch.from_numpy(labels))
        size = options["batch_size"]
        self._batches = list(zip(*(values.split(size) for values in inputs), strict=True))
        self._model = ClickModel(options["backbone"], columns, options["sizes"])
        self._optimizer = torch.optim.Adagrad(self._model.parameters(), 0.001)
        self._mixed = options.get("precision") == "mixed_bfloat16"
        self._step = 0
        self.run(1)
        count = sum(p.numel() for p in self._model.parameters())
        return {"parameters": count, "version": torch.__version__}

    def run(self, steps: int) -> int:
        """Trains."""
        rows = 0
        for _ in range(steps):
            *inputs, labels = self._batches[self._step % len(self._batches)]
            self._step += 1
            with torch.autocast("cpu", torch.bfloat16, enabled=self._mixed):
                logits = self._model(*inputs)
            loss = nn.functional.binary_cross_entropy_with_logits(logits.float(), labels)
            self._optimizer.zero_grad()
            loss.backward()
            self._optimizer.step()
            rows += len(labels)
        return rows


def _stack(widths: list[int]) -> nn.Sequential:
    layers = []
    for before, after in itertools.pairwise(widths):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers)


if __name__ == "__main__":
    serve(TorchTraining())
