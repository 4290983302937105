"""From the llvm level out: LLVM IR text, objects, linking into this process, and the machines it is done for."""
