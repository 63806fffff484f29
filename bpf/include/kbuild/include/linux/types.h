// All types are in linux/kconfig.h, which BCC includes first.
