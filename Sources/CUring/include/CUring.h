/* The kernel's side in C: what Swift cannot import or cannot say.
 *
 *   ublk_abi.h   the ublk driver's structures and numbers, in our own words
 *   uring.h      liburing and the few inline helpers around it
 *   system.h     GNU-only and variadic system calls
 */
#pragma once
#include "system.h"
#include "ublk_abi.h"
#include "uring.h"
