"""Live sources: a name or a pasted link -> records, asked of the services that know papers.

`parse` reads the name, a `Fetcher` sends the requests of a run, and `open_live` reads the replies with the readers of
files. Nothing here knows the formats themselves: `read` is given by the caller.
"""

from assistant.sources.live.fetch import Fetcher
from assistant.sources.live.hosts import SERVICES
from assistant.sources.live.names import EXAMPLES, Query, parse
from assistant.sources.live.services import MOST, open_live
from assistant.sources.live.wire import Patience

__all__ = ["EXAMPLES", "MOST", "SERVICES", "Fetcher", "Patience", "Query", "open_live", "parse"]
