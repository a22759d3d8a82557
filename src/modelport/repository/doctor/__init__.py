"""What is wrong, or will be, with a model repository: read from its files, without a server.

    finding        what a check says, and the rule that it belongs to
    targets        what the official containers can do
    context, model what the checks look at
    backends       what Triton knows of its backends by name
    text_fields    where in a config.pbtxt each field stands
    onnx_header    an ONNX file without its weights
    registry       the one list of checks; one module for each area
    repair, edits  what `--fix` does

A new rule is a `Rule` and a few lines in the module of its area. It comes into the report, the documents and the tests'
list of rules by being in that module's `RULES`.
"""
