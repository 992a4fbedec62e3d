"""Which target token translates which source token: IBM model 1, by expectation maximization over sparse matrices.

Model 1 has every target token of a sentence come from one of its source tokens, or from none (NULL), all equally
likely beforehand: p(t | sentence) is the sum of p(t | s) over its source tokens s, up to a constant. With a
matrix of token counts for each side, one iteration is two sparse products:

    mixture = source @ table                                  the sum above, needed where target has tokens
    table   = rows of table * (source.T @ (target / mixture)), each divided by its sum

It is written out here because the usual tools, fast_align and eflomal, are programs that need a compiler, and want
text where we have token ids.

Shapes: I sentences, M source tokens and NULL, N target tokens.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from tprune.text.corpus import ParallelIds

CELLS = 1 << 24  # of a product at a time: 64 MiB where all of them are filled
FLOOR = 1e-3  # less likely translations leave the table: at most 1000 stay for a source token

Matrix = sparse.csr_array


def translations(source: Matrix, target: Matrix, iterations: int, floor: float = FLOOR) -> Matrix:
    """Learn p(target token | source token).

    Memory is bounded by the two matrices, the table's at most N / floor entries, and products of CELLS cells.

    Args:
        source: (I, M) how often each source token stands in each sentence; NULL, the last column, once in each.
        target: (I, N) the same of target tokens.
        iterations: Of expectation maximization, from a uniform table; at least 1.
        floor: Less likely translations are dropped after every iteration.

    Returns:
        (M, N) p(t | s), up to what was dropped.
    """
    transposed = source.T.tocsr()
    length = np.asarray(source.sum(axis=1), np.float32)
    table: Matrix | None = None
    for _ in range(iterations):
        mixture = np.repeat(length, np.diff(target.indptr)) if table is None else _mixture(source, target, table)
        table = _maximized(transposed, _divided(target, mixture), table, floor)
    assert table is not None
    return table


def counts(pairs: ParallelIds, side: int, vocabulary: int, ignored: tuple[int, ...], null: bool = False) -> Matrix:
    """Count the tokens of each sentence: (I, vocabulary), or with NULL (I, vocabulary + 1).

    Args:
        pairs: Sentence pairs.
        side: 0 = source, 1 = target.
        vocabulary: Number of token ids; Marian's two sides may differ in it, so that it grows with what is there.
        ignored: Tokens that translate nothing, as the end of sentence.
        null: Put NULL into every sentence.
    """
    lengths = np.diff(pairs.offsets)
    chosen = np.repeat(np.arange(len(lengths)) % 2 == side, lengths)
    tokens = np.asarray(pairs.ids)[: pairs.offsets[-1]][chosen].astype(np.int32)
    sentences = np.repeat(np.arange(len(pairs), dtype=np.int32), lengths[side::2])
    real = ~np.isin(tokens, ignored)
    tokens, sentences = tokens[real], sentences[real]
    vocabulary = max(vocabulary, int(tokens.max(initial=0)) + 1)
    if null:
        tokens = np.concatenate([tokens, np.full(len(pairs), vocabulary, np.int32)])
        sentences = np.concatenate([sentences, np.arange(len(pairs), dtype=np.int32)])
    ones = np.ones(len(tokens), np.float32)
    return sparse.coo_array((ones, (sentences, tokens)), shape=(len(pairs), vocabulary + null)).tocsr()


def _mixture(source: Matrix, target: Matrix, table: Matrix) -> NDArray[np.float32]:
    """The sum of p(t | s) over a sentence's source tokens, for every entry of `target`, in its order."""
    found = np.empty(target.nnz, np.float32)
    step = max(1, CELLS // target.shape[1])
    for begin in range(0, target.shape[0], step):
        rows = slice(begin, begin + step)
        product = (source[rows] @ table).toarray()
        indptr = target.indptr[begin : begin + len(product) + 1]
        own = slice(indptr[0], indptr[-1])
        found[own] = product[np.repeat(np.arange(len(product)), np.diff(indptr)), target.indices[own]]
    return found


def _divided(target: Matrix, mixture: NDArray[np.float32]) -> Matrix:
    """`target / mixture` where it has tokens; a token that nothing in its sentence explains any more counts nothing."""
    shares = np.divide(target.data, mixture, out=np.zeros_like(target.data), where=mixture > 0)
    return sparse.csr_array((shares, target.indices, target.indptr), shape=target.shape)


def _maximized(transposed: Matrix, shares: Matrix, table: Matrix | None, floor: float) -> Matrix:
    """Expected counts, and from them the next table, by blocks of source tokens."""
    blocks: list[Matrix] = []
    step = max(1, CELLS // shares.shape[1])
    for begin in range(0, transposed.shape[0], step):
        rows = slice(begin, begin + step)
        expected = (transposed[rows] @ shares).tocsr()
        if table is not None:
            expected = table[rows].multiply(expected).tocsr()
        sums = np.asarray(expected.sum(axis=1), np.float32)
        expected.data /= np.repeat(sums, np.diff(expected.indptr))
        expected.data[expected.data < floor] = 0
        expected.eliminate_zeros()
        blocks.append(expected)
    joined: Matrix = sparse.vstack(blocks, format="csr")
    return joined
