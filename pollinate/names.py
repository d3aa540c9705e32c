"""Names that tasks and data sets can have: they become keys of PyTorch's containers."""

from __future__ import annotations

import re

from pollinate.suggest import shown
from pollinate.yaml_words import quotes_hint

# all attributes of nn.ModuleDict and nn.ParameterDict: an entry of such a name raises KeyError.
# smart_apply is put there by transformers
RESERVED_NAMES = frozenset(
    """
    T_destination _apply _backward_hooks _backward_pre_hooks _buffers _call_impl
    _compiled_call_impl _forward_hooks _forward_hooks_always_called _forward_hooks_with_kwargs
    _forward_pre_hooks _forward_pre_hooks_with_kwargs _get_backward_hooks _get_backward_pre_hooks
    _get_name _is_full_backward_hook _key_to_attr _keys _load_from_state_dict
    _load_state_dict_post_hooks _load_state_dict_pre_hooks _maybe_warn_non_full_backward_hook
    _modules _named_members _non_persistent_buffers_set _parameters
    _register_load_state_dict_pre_hook _register_state_dict_hook _replicate_for_data_parallel
    _save_to_state_dict _slow_forward _state_dict_hooks _state_dict_pre_hooks _version
    _wrapped_call_impl add_module apply bfloat16 buffers call_super_init children clear compile
    copy cpu cuda double dump_patches eval extra_repr float forward fromkeys get get_buffer
    get_extra_state get_parameter get_submodule half ipu items keys load_state_dict modules mtia
    named_buffers named_children named_modules named_parameters parameters pop popitem
    register_backward_hook register_buffer register_forward_hook register_forward_pre_hook
    register_full_backward_hook register_full_backward_pre_hook register_load_state_dict_post_hook
    register_load_state_dict_pre_hook register_module register_parameter
    register_state_dict_post_hook register_state_dict_pre_hook requires_grad_ set_extra_state
    set_submodule setdefault share_memory smart_apply state_dict to to_empty train training type
    update values xpu zero_grad
    """.split()  # noqa: SIM905  # a list would have a line for each name
)
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def name_problem(name: object) -> str:
    """Say why a task or data set can't be called so; nothing is an empty text."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        rule = "a name is letters, digits and _, no digit first"
        return f"{rule}, got {shown(name)}{quotes_hint(name) if isinstance(name, bool) else ''}"
    if name in RESERVED_NAMES or name.startswith("__"):
        return f"{name!r} is reserved by PyTorch's containers; choose another name"
    return ""
