"""Writes chat_templates.golden: what jinja2, configured as transformers does, renders from the templates in
../shared/data/chat-templates. One line per case: template, conversation, with tools or not, which extras, and the
64-bit FNV-1a hash of the text, or `error`.

    pip install jinja2==3.1.6 && python chat_templates.py DIRECTORY_OF_TEMPLATES
"""

import datetime
import json
import pathlib
import sys

import jinja2
import jinja2.ext
import jinja2.sandbox

HERE = pathlib.Path(__file__).parent
NOW = datetime.datetime(2024, 8, 1, 12, 34, 56)


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def to_json(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def environment():
    env = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols]
    )
    env.filters["tojson"] = to_json
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = NOW.strftime
    return env


def fnv1a(text):
    value = 0xCBF29CE484222325
    for byte in text.encode():
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return f"{value:016x}"


def main(directory):
    cases = json.loads((HERE / "chat_templates.json").read_text())
    lines = []
    for path in sorted(pathlib.Path(directory).glob("*.jinja")):
        template = environment().from_string(path.read_text())
        for name, messages in cases["conversations"].items():
            for tools in [None, cases["tools"]]:
                for index, extra in enumerate(cases["extras"]):
                    try:
                        text = template.render(
                            messages=messages,
                            tools=tools,
                            documents=None,
                            add_generation_prompt=True,
                            bos_token="<s>",
                            eos_token="</s>",
                            **extra,
                        )
                        result = fnv1a(text)
                    except (jinja2.TemplateError, TypeError):
                        result = "error"
                    with_tools = "tools" if tools else "-"
                    lines.append(f"{path.stem} {name} {with_tools} {index} {result}\n")
    (HERE / "chat_templates.golden").write_text("".join(lines))


main(sys.argv[1])
