// The one hash of our own tables: multiplication by the golden ratio (Knuth, TAOCP 3, 6.4). The upper bits of a product
// depend on every bit of the value, the lower ones do not.
#ifndef XDPGUARD_HASH_H
#define XDPGUARD_HASH_H

#define XG_GOLDEN 0x9E3779B97F4A7C15ULL // 2^64 / golden ratio

#endif
