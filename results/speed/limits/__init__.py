"""How near the attentions are to what is possible: beside other projects' layers, beside no attention, beside the memory."""
