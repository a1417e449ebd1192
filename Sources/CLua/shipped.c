/* The scripts of scripts/faults, embedded by the compiler, which also notes that this file depends on them. A tidy
 * test tells when one is missing here. */
#include "include/shipped.h"

#pragma clang diagnostic ignored "-Wc23-extensions" /* #embed */

static const struct us_shipped shipped[] = {
    {"bitrot", (const char[]){
#embed "../../scripts/faults/bitrot.lua"
        , '\0'}},
    {"cloud-stall", (const char[]){
#embed "../../scripts/faults/cloud-stall.lua"
        , '\0'}},
    {"delay", (const char[]){
#embed "../../scripts/faults/delay.lua"
        , '\0'}},
    {"dust", (const char[]){
#embed "../../scripts/faults/dust.lua"
        , '\0'}},
    {"error", (const char[]){
#embed "../../scripts/faults/error.lua"
        , '\0'}},
    {"failslow-tail", (const char[]){
#embed "../../scripts/faults/failslow-tail.lua"
        , '\0'}},
    {"failslow-vibration", (const char[]){
#embed "../../scripts/faults/failslow-vibration.lua"
        , '\0'}},
    {"faulty", (const char[]){
#embed "../../scripts/faults/faulty.lua"
        , '\0'}},
    {"flakey", (const char[]){
#embed "../../scripts/faults/flakey.lua"
        , '\0'}},
    {"fsyncgate", (const char[]){
#embed "../../scripts/faults/fsyncgate.lua"
        , '\0'}},
    {"hang-timeout", (const char[]){
#embed "../../scripts/faults/hang-timeout.lua"
        , '\0'}},
    {"hdd-desktop-retry", (const char[]){
#embed "../../scripts/faults/hdd-desktop-retry.lua"
        , '\0'}},
    {"hdd-raid-erc", (const char[]){
#embed "../../scripts/faults/hdd-raid-erc.lua"
        , '\0'}},
    {"lse-enterprise", (const char[]){
#embed "../../scripts/faults/lse-enterprise.lua"
        , '\0'}},
    {"lse-nearline", (const char[]){
#embed "../../scripts/faults/lse-nearline.lua"
        , '\0'}},
    {"misdirect", (const char[]){
#embed "../../scripts/faults/misdirect.lua"
        , '\0'}},
    {"nvme-reset", (const char[]){
#embed "../../scripts/faults/nvme-reset.lua"
        , '\0'}},
    {"rate-limit", (const char[]){
#embed "../../scripts/faults/rate-limit.lua"
        , '\0'}},
    {"smr-dm", (const char[]){
#embed "../../scripts/faults/smr-dm.lua"
        , '\0'}},
};

size_t us_shipped_count(void) {
    return sizeof shipped / sizeof *shipped;
}

const struct us_shipped *us_shipped_at(size_t index) {
    return &shipped[index];
}
