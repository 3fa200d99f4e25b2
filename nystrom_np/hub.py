"""Checkpoints on the Hugging Face Hub: fetched with ``huggingface_hub`` into its cache, as folders.

A name stands for a local folder if there is one of that name, and for a repository otherwise. The cache is shared
with ``transformers``; files in it are used without network. ``HF_ENDPOINT``, ``HF_HOME``, ``HF_TOKEN`` and
``HF_HUB_OFFLINE`` are obeyed.
"""

import glob
import os
import re
import warnings
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple, NoReturn

from nystrom_np.files import read_weight_map, with_variant
from nystrom_np.hub_guard import watching
from nystrom_np.saving import latest

__all__ = ["local_folder"]

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
FILES = {
    "config": (CONFIG,),
    "weights": (WEIGHTS, f"{WEIGHTS}.index.json", CONFIG),
    "pickle": (*PICKLES, CONFIG, *TOKENIZER),
    "tokenizer": TOKENIZER,
    "reference": ("reference.json", "reference.safetensors", CONFIG, *TOKENIZER),
}
"""What is fetched, if the repository has it. Required is the first file; for weights, their index will do instead."""

OF_REPOSITORIES = ("revision", "cache_dir", "local_files_only", "subfolder", "token", "force_download")
"""Arguments of `local_folder` that whatever loads something has too."""


def repository_options(options: dict[str, Any]) -> dict[str, Any]:
    """Take what is for `local_folder` out of the options of a call, and return it.

    Parameters
    ----------
    options : dict
        They are left without it. ``use_auth_token`` is an older name of ``token``.

    Returns
    -------
    dict

    Raises
    ------
    ValueError
        If both names are given.

    Examples
    --------
    >>> options = {"revision": "main", "num_labels": 3}
    >>> repository_options(options), options
    ({'revision': 'main'}, {'num_labels': 3})
    """
    older = options.pop("use_auth_token", None)
    if older is not None:
        if options.get("token") is not None:
            raise ValueError("token and use_auth_token are two names of one thing, found both")
        warnings.warn("use_auth_token is an older name: use token", stacklevel=3)
        options["token"] = older
    return {name: options.pop(name) for name in OF_REPOSITORIES if name in options}


Name = str | os.PathLike[str]


def local_folder(
    name: Name,
    what: Literal["config", "weights", "pickle", "tokenizer", "reference"],
    revision: str | None = None,
    cache_dir: Name | None = None,
    local_files_only: bool = False,
    *,
    subfolder: str = "",
    token: str | bool | None = None,
    force_download: bool = False,
    variant: str | None = None,
) -> Path:
    """Return the folder that a name stands for, after fetching what is missing of a repository.

    Parameters
    ----------
    name : str or path
        A folder; or, as a str, the ``owner/name`` of a repository. A folder of that name is preferred, and returned
        without a look into it.
    what : {"config", "weights", "pickle", "tokenizer", "reference"}
        Which files are needed. "config": ``config.json``; "weights": that and safetensors weights; "pickle": that and
        ``pytorch_model.bin``, with the tokenizer's files if there are any; "tokenizer": ``tokenizer.json`` and the
        files beside it that describe special tokens; "reference": stored outputs, with these.
    revision : str, optional
        A branch, a tag or a commit of the repository; its main branch by default.
    cache_dir : str or path, optional
        Where fetched files are kept; the cache of ``huggingface_hub`` by default.
    local_files_only : bool
        Use the cache only, never the network.
    subfolder : str
        Where the files are in the folder or the repository.
    token : str or bool, optional
        Who asks for a repository; by default the token of ``HF_TOKEN`` or of an earlier login, with False nobody.
    force_download : bool
        Fetch also what is in the cache.
    variant : str, optional
        Which weights: "fp16" for ``model.fp16.safetensors``.

    Returns
    -------
    Path
        The local folder, or a folder of the cache, all of whose files are of one commit.

    Raises
    ------
    OSError
        If the repository, the revision or a file does not exist (FileNotFoundError), may not be read
        (PermissionError), or is not in the cache and cannot be fetched (ConnectionError). If the repository has its
        weights only as a pickle, the message names the command that converts it.
    ValueError
        If the index of several weight files is damaged, or the revision or the subfolder is no name.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     local_folder(folder, "weights") == Path(folder)
    True
    """
    if not isinstance(subfolder, str) or Path(subfolder).is_absolute() or ".." in Path(subfolder).parts:
        raise ValueError(f"subfolder must be the name of a folder inside the checkpoint's; found {subfolder!r:.80}")
    repository = _Repository.of(name, revision, cache_dir, local_files_only)
    if repository is None:
        folder = Path(name) / subfolder
        return latest(folder) if what in ("weights", "config") and variant is None else folder
    repository = replace(repository, token=token, force_download=force_download)
    main, *others = (_Where(subfolder, variant).of(file) for file in FILES[what])
    folder = repository.fetch(main, *others)
    repository = replace(repository, revision=folder.name)  # what follows is of the same commit
    if what != "tokenizer" and not (folder / subfolder / CONFIG).is_file():
        repository.refuse(_Where(subfolder).of(CONFIG))
    if not (folder / main).is_file():
        index = folder / _Where(subfolder, variant).of(f"{FILES[what][0]}.index.json")
        if not index.is_file():
            repository.refuse(main)
        repository.fetch(*(_Where(subfolder).of(shard) for shard in sorted(set(read_weight_map(index).values()))))
    return folder / subfolder


class _Where(NamedTuple):
    """Where in a repository a file is."""

    subfolder: str
    variant: str | None = None

    def of(self, file: str) -> str:
        """Return the file's path; only weights have variants."""
        file = with_variant(file, self.variant) if file.startswith((WEIGHTS, PICKLES[0])) else file
        return (PurePosixPath(self.subfolder) / file).as_posix()


@dataclass(frozen=True)
class _Repository:
    """A repository at a revision, and where its files are kept."""

    name: str
    revision: str | None
    cache_dir: Path | None
    local_files_only: bool
    token: str | bool | None = None
    force_download: bool = False

    @classmethod
    def of(
        cls, name: Name, revision: str | None, cache_dir: Name | None, local_files_only: bool
    ) -> "_Repository | None":
        """Return None if the name is a folder's. Only a str with exactly one slash can name a repository."""
        part = r"[A-Za-z0-9_][A-Za-z0-9_.-]*"
        if not isinstance(name, str) or not re.fullmatch(f"{part}/{part}", name) or Path(name).exists():
            return None
        # It becomes the name of a file in the cache. No branch has one that is refused here: Git does not allow it.
        if revision is not None and re.search(r"[\x00-\x20\\:?*]|\.\.|^/|//|/$|(^|/)\./|^\.?$", revision):
            raise ValueError(f"revision must be the name of a branch or tag, or a commit; found {revision!r:.80}")
        return cls(name, revision, None if cache_dir is None else Path(cache_dir), local_files_only)

    def fetch(self, *files: str) -> Path:
        """Return the folder of the cache that holds the files, so far as the repository has them.

        An error names the first.
        """
        from huggingface_hub import snapshot_download  # here, since importing it takes a third of a second
        from huggingface_hub.utils import (
            GatedRepoError,
            LocalEntryNotFoundError,
            RepositoryNotFoundError,
            RevisionNotFoundError,
        )

        try:
            with watching():
                folder = snapshot_download(
                    self.name,
                    revision=self.revision,
                    cache_dir=self.cache_dir,
                    local_files_only=self.local_files_only,
                    token=self.token,
                    force_download=self.force_download,
                    allow_patterns=[glob.escape(file) for file in files],
                    tqdm_class=_late_bar(),
                )
            return Path(folder)
        except LocalEntryNotFoundError as error:
            self._refuse_unreachable(files[0], error.__cause__ or error)
        except GatedRepoError:
            raise PermissionError(f"{self} is open only to those whom its owner lets in: set HF_TOKEN") from None
        except RepositoryNotFoundError:
            advice = "or it is private: set HF_TOKEN"
            raise FileNotFoundError(f"there is no folder {self.name} here and no {self} ({advice})") from None
        except RevisionNotFoundError:
            raise FileNotFoundError(f"{self} has no revision {self.revision!r}") from None
        except Exception as error:  # the HTTP library below has exceptions of its own, and another in each version
            raise OSError(f"{files[0]} of {self} could not be fetched: {_reason(error)}") from error

    def refuse(self, file: str) -> NoReturn:
        """Say why a required file was not fetched; if the weights exist only as a pickle, say how to convert it."""
        from huggingface_hub import HfApi

        if self.local_files_only:
            self._refuse_unreachable(file)
        try:
            with watching():
                listed = HfApi(token=self.token).list_repo_files(self.name, revision=self.revision)
        except Exception as error:  # whichever it is: the repository cannot be asked
            self._refuse_unreachable(file, error)
        pickles = [pickle for pickle in PICKLES if pickle in listed]
        if file == WEIGHTS and pickles:
            raise FileNotFoundError(
                f"{self} has its weights only as {pickles[0]}, a pickle, which can run code and is not loaded; "
                f"make a folder of safetensors of it with: nystrom-np convert {self.name} FOLDER"
            )
        raise FileNotFoundError(f"{self} has no {file}")

    def _refuse_unreachable(self, file: str, cause: BaseException | None = None) -> NoReturn:
        where = f"{file} of {self} is not in the cache"
        if self.local_files_only:
            raise ConnectionError(f"{where}, and local_files_only=True forbids to fetch it") from None
        raise ConnectionError(f"{where}, and it cannot be fetched: {_reason(cause)}") from cause

    def __str__(self) -> str:
        from huggingface_hub import constants

        return f"repository {self.name} on {constants.ENDPOINT.removeprefix('https://')}"


def _reason(error: BaseException | None) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _late_bar() -> Any:
    """Return a progress bar that only long downloads show: `snapshot_download`'s appears even if all is cached."""
    from huggingface_hub.utils import tqdm

    class LateBar(tqdm):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **{**options, "delay": 1})

        def display(self, *args: Any, **options: Any) -> Any:
            return self._time() >= self.start_t + self.delay and super().display(*args, **options)

    return LateBar
