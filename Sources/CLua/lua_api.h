/* The Lua 5.4 headers, wherever the system keeps them. The package links liblua5.4. */
#pragma once
#if __has_include(<lua5.4/lua.h>)
#include <lua5.4/lauxlib.h>
#include <lua5.4/lua.h>
#include <lua5.4/lualib.h>
#else
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#endif

#if LUA_VERSION_NUM != 504
#error "Lua 5.4 is needed: the sandbox lists what this version offers"
#endif
