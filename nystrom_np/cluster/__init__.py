"""Vectors of very many lines, in numbered shards that any number of processes make: on a Dask cluster, or one by one.

Data flows one way: sources → ``plan`` (which lines make which shard) → ``shard`` (one of them, wherever it runs) →
files of a folder, which ``opening`` opens. ``run`` hands the shards out.
"""

from nystrom_np.cluster.opening import open_vectors
from nystrom_np.cluster.run import Corpus, embed_corpus

__all__ = ["Corpus", "embed_corpus", "open_vectors"]
