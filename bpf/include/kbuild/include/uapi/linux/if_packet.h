// Asked for by BCC's helpers.h; nothing of it is used.
