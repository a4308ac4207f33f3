"""Words in the names of columns, by what they say about the column. Add those of your logs."""

from __future__ import annotations

# fmt: off
# Of names of users; in order of preference, since a log that has several is about the first.
USER = (
    "user", "uid", "member", "customer", "visitor", "account", "viewer", "reader", "player",
    "client", "person", "profile", "cookie", "device", "session",
)
# Of names of what is shown; in order of preference.
ITEM = (
    "item", "product", "video", "article", "news", "movie", "film", "ad", "creative",
    "banner", "song", "track", "post", "photo", "document", "doc", "content", "offer",
    "listing", "sku", "asin", "book", "story", "note", "app", "game", "hotel", "place", "job",
)
CLICK = ("click", "clicked", "clk", "clicks")
LABEL = ("label", "target", "y")
RATING = ("rating", "stars")
TIME = ("time", "timestamp", "ts", "at", "ms", "datetime", "date", "shown", "impression")
GROUP = ("group", "segment", "cohort", "tier", "cluster", "persona")
# Of counts up to the log's beginning.
COUNT = ("earlier", "prior", "previous", "past", "before", "history")
WEIGHT = ("weight", "weights")
# Say nothing by themselves.
AUXILIARY = ("is", "was", "has", "did", "the", "flag")
# Of numbers that are names, and no quantities.
KIND = (
    "id", "code", "type", "category", "cat", "tag", "tags", "author", "brand", "city", "zip",
    "genre", "kind",
)
# Of what is known after a click.
AFTER_CLICK = (
    "dwell", "stay", "play", "watch", "watched", "view", "viewed", "views", "like", "liked",
    "likes", "follow", "followed", "share", "shared", "comment", "commented", "favorite",
    "favourite", "bookmark", "purchase", "purchased", "buy", "bought", "order", "ordered",
    "cart", "conversion", "converted", "forward", "hate", "dislike", "skip", "finish",
    "finished", "completion", "complete", "rating", "revenue", "booked", "saved", "reply",
    "profile",
)
# Of these, what may also be known before.
AMBIGUOUS = (
    "order", "view", "views", "viewed", "play", "complete", "profile", "rating", "stay",
    "finish",
)
