/* The script side in C: one Lua 5.4 state per queue.
 *
 * Why C: Lua raises errors by longjmp, and a longjmp across a Swift frame skips its releases.
 * So every Lua call that can raise is made here below lua_pcall, every function a script can
 * call is a C function over a C struct, and Swift sees only plain structs and status codes.
 *
 *   script.h     load a script, run its handlers, stop it when it runs away
 *   tests.h      the tests that a script carries, for the simulator
 *   vocabulary.h the words of the language that more than one file knows: outcomes, corruption modes, flags ...
 *   decision.h   what is to happen to one IO, and the IO as a script sees it
 *   effects.h    changes to data that a handler has noted
 *   objects.h    what is called here of what Swift has: sets, buckets, cells, dicts, units, ...
 *   errnos.h     names of errnos
 *   meter.h      how long something has worked
 *   shipped.h    the fault scripts inside the program
 */
#pragma once
#include "decision.h"
#include "effects.h"
#include "errnos.h"
#include "meter.h"
#include "objects.h"
#include "script.h"
#include "shipped.h"
#include "tests.h"
#include "vocabulary.h"
