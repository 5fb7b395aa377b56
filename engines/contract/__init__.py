"""The contract of adapters, for their own tests: `from detrec.engines.contract import AdapterContract`."""

import pytest

# else a failed assertion would say no more than that
pytest.register_assert_rewrite("detrec.engines.contract.adapter", "detrec.engines.contract.told")

from detrec.engines.contract.adapter import AdapterContract  # noqa: E402

__all__ = ["AdapterContract"]
