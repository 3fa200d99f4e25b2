"""Checkpoints on the Hugging Face Hub: fetched with ``huggingface_hub`` into its cache, so that all else sees folders.

A name stands for a folder where there is one, and for a repository otherwise. The cache is the one that
``transformers`` uses; what is in it needs no network. ``HF_ENDPOINT``, ``HF_HOME``, ``HF_TOKEN`` and
``HF_HUB_OFFLINE`` are obeyed.
"""

import os
import re
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NoReturn

from nystrom_np.files import read_weight_map

__all__ = ["local_folder"]

CONFIG = "config.json"
WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")
TOKENIZER = "tokenizer.json"
TOKENIZER_EXTRAS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")

Name = str | os.PathLike[str]


def local_folder(
    name: Name,
    what: Literal["config", "weights", "pickle", "tokenizer"],
    revision: str | None = None,
    cache_dir: Name | None = None,
    local_files_only: bool = False,
) -> Path:
    """Return the folder that a name stands for, its files fetched if need be.

    Parameters
    ----------
    name : str or path
        A folder; or, as a str, the ``owner/name`` of a repository. A folder of that name wins, and is not looked
        into here.
    what : {"config", "weights", "pickle", "tokenizer"}
        Which files are needed: ``config.json``; this and safetensors weights; this and ``pytorch_model.bin``, with the
        tokenizer's files if there are any; ``tokenizer.json`` and what belongs to it.
    revision : str, optional
        A branch, a tag or a commit of the repository; its main branch by default.
    cache_dir : str or path, optional
        Where fetched files are kept; the cache of ``huggingface_hub`` by default.
    local_files_only : bool
        Whether to take files from the cache alone.

    Returns
    -------
    Path
        The folder itself, or one of the cache, which holds the files of one commit.

    Raises
    ------
    OSError
        If the repository, the revision or a file does not exist (FileNotFoundError), may not be read
        (PermissionError), or is not in the cache and cannot be fetched (ConnectionError). Where the weights are there
        as a pickle alone, the message names the command that converts it.
    ValueError
        If the index of several weight files is damaged.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     local_folder(folder, "weights") == Path(folder)
    True
    """
    repository = _Repository.of(name, revision, cache_dir, local_files_only)
    if repository is None:
        return Path(name)
    folder = repository.fetch(TOKENIZER if what == "tokenizer" else CONFIG).parent
    pinned = repository.at(folder)
    if what == "weights" and not pinned.fetch_weights(*WEIGHTS):
        pinned.refuse_without_weights()
    if what == "pickle" and not pinned.fetch_weights(*PICKLES):
        raise FileNotFoundError(f"{repository} has no {PICKLES[0]}")
    if what == "pickle":
        pinned.fetch_if_there(TOKENIZER)
    if what in ("pickle", "tokenizer"):
        pinned.fetch_if_there(*TOKENIZER_EXTRAS)
    return folder


@dataclass(frozen=True)
class _Repository:
    """A repository at a revision, and where its files are kept."""

    name: str
    revision: str | None
    cache_dir: Path | None
    local_files_only: bool

    @classmethod
    def of(
        cls, name: Name, revision: str | None, cache_dir: Name | None, local_files_only: bool
    ) -> "_Repository | None":
        """Tell a repository from a folder. Only a str with one slash can name a repository."""
        part = r"[A-Za-z0-9_][A-Za-z0-9_.-]*"
        if not isinstance(name, str) or not re.fullmatch(f"{part}/{part}", name) or Path(name).exists():
            return None
        return cls(name, revision, None if cache_dir is None else Path(cache_dir), local_files_only)

    def at(self, snapshot: Path) -> "_Repository":
        """Hold on to the commit of a file that was fetched, so that all files are of one commit."""
        return replace(self, revision=snapshot.name)

    def fetch(self, file: str) -> Path:
        """Return where a file lies in the cache, downloaded if need be."""
        from huggingface_hub import hf_hub_download  # here, since importing it takes a third of a second
        from huggingface_hub.utils import (
            EntryNotFoundError,
            GatedRepoError,
            LocalEntryNotFoundError,
            RepositoryNotFoundError,
            RevisionNotFoundError,
        )

        if self._is_known_to_lack(file):
            raise FileNotFoundError(f"{self} has no {file}")
        try:
            return Path(
                hf_hub_download(
                    self.name,
                    file,
                    revision=self.revision,
                    cache_dir=self.cache_dir,
                    local_files_only=self.local_files_only,
                )
            )
        except LocalEntryNotFoundError as error:
            self._refuse_unreachable(file, error)
        except EntryNotFoundError:
            raise FileNotFoundError(f"{self} has no {file}") from None
        except GatedRepoError:
            raise PermissionError(f"{self} is open only to those whom its owner lets in: set HF_TOKEN") from None
        except RepositoryNotFoundError:
            advice = "or it is private: set HF_TOKEN"
            raise FileNotFoundError(f"there is no folder {self.name} here and no {self} ({advice})") from None
        except RevisionNotFoundError:
            raise FileNotFoundError(f"{self} has no revision {self.revision!r}") from None
        except Exception as error:  # the HTTP library below has exceptions of its own, and another in each version
            reason = " ".join(str(error).split()) or type(error).__name__
            raise OSError(f"{file} of {self} could not be fetched: {reason}") from error

    def fetch_if_there(self, *files: str) -> list[Path]:
        """Return those files that there are. One that is not in the cache is taken as absent without network."""
        found = []
        for file in files:
            with suppress(FileNotFoundError, ConnectionError):
                found.append(self.fetch(file))
        return found

    def fetch_weights(self, single: str, index: str) -> bool:
        """Fetch one file or all shards; return whether the repository has them."""
        try:
            self.fetch(single)
            return True
        except (FileNotFoundError, ConnectionError) as error:
            listed = self.fetch_if_there(index)
            if not listed and isinstance(error, ConnectionError):
                raise
        for shard in sorted({shard for path in listed for shard in read_weight_map(path).values()}):
            self.fetch(shard)
        return bool(listed)

    def refuse_without_weights(self) -> NoReturn:
        """Say that there are no safetensors weights; and if there is a pickle, how to convert it."""
        from huggingface_hub import get_hf_file_metadata, hf_hub_url

        for file in PICKLES:
            try:
                get_hf_file_metadata(hf_hub_url(self.name, file, revision=self.revision))
            except Exception:  # it is not there, or cannot be asked for: then there is nothing to advise
                continue
            raise FileNotFoundError(
                f"{self} has its weights only as {file}, a pickle, which can run code and is not loaded; "
                f"make a folder of safetensors of it with: nystrom-np convert {self.name} FOLDER"
            )
        raise FileNotFoundError(f"{self} has neither {WEIGHTS[0]} nor {WEIGHTS[1]}")

    def _is_known_to_lack(self, file: str) -> bool:
        """Whether the cache has noted that there is no such file in this commit: without network, asking takes long."""
        from huggingface_hub import _CACHED_NO_EXIST, try_to_load_from_cache

        if not re.fullmatch("[0-9a-f]{40}", self.revision or ""):
            return False
        found = try_to_load_from_cache(self.name, file, cache_dir=self.cache_dir, revision=self.revision)
        return found is _CACHED_NO_EXIST

    def _refuse_unreachable(self, file: str, error: Exception) -> NoReturn:
        where = f"{file} of {self} is not in the cache"
        if self.local_files_only:
            raise ConnectionError(f"{where}, and local_files_only=True forbids to fetch it") from None
        cause = error.__cause__ or error
        reason = " ".join(str(cause).split()) or type(cause).__name__
        raise ConnectionError(f"{where}, and it cannot be fetched: {reason}") from error

    def __str__(self) -> str:
        from huggingface_hub import constants

        return f"repository {self.name} on {constants.ENDPOINT.removeprefix('https://')}"
