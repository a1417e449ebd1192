/* The scripts of scripts/faults and scripts/targets, embedded by the compiler, which also notes that this file depends
 * on them. A test tells when one is missing here. */
#include "include/shipped.h"

#pragma clang diagnostic ignored "-Wc23-extensions" /* #embed */

static const struct us_shipped shipped[] = {
    {"faults", "bitrot", (const char[]){
#embed "../../scripts/faults/bitrot.lua"
        , '\0'}},
    {"faults", "cloud-stall", (const char[]){
#embed "../../scripts/faults/cloud-stall.lua"
        , '\0'}},
    {"faults", "delay", (const char[]){
#embed "../../scripts/faults/delay.lua"
        , '\0'}},
    {"faults", "discard", (const char[]){
#embed "../../scripts/faults/discard.lua"
        , '\0'}},
    {"faults", "dust", (const char[]){
#embed "../../scripts/faults/dust.lua"
        , '\0'}},
    {"faults", "error", (const char[]){
#embed "../../scripts/faults/error.lua"
        , '\0'}},
    {"faults", "failslow-tail", (const char[]){
#embed "../../scripts/faults/failslow-tail.lua"
        , '\0'}},
    {"faults", "failslow-vibration", (const char[]){
#embed "../../scripts/faults/failslow-vibration.lua"
        , '\0'}},
    {"faults", "faulty", (const char[]){
#embed "../../scripts/faults/faulty.lua"
        , '\0'}},
    {"faults", "flakey", (const char[]){
#embed "../../scripts/faults/flakey.lua"
        , '\0'}},
    {"faults", "fsyncgate", (const char[]){
#embed "../../scripts/faults/fsyncgate.lua"
        , '\0'}},
    {"faults", "hang-timeout", (const char[]){
#embed "../../scripts/faults/hang-timeout.lua"
        , '\0'}},
    {"faults", "hdd-desktop-retry", (const char[]){
#embed "../../scripts/faults/hdd-desktop-retry.lua"
        , '\0'}},
    {"faults", "hdd-raid-erc", (const char[]){
#embed "../../scripts/faults/hdd-raid-erc.lua"
        , '\0'}},
    {"faults", "lse-enterprise", (const char[]){
#embed "../../scripts/faults/lse-enterprise.lua"
        , '\0'}},
    {"faults", "lse-nearline", (const char[]){
#embed "../../scripts/faults/lse-nearline.lua"
        , '\0'}},
    {"faults", "misdirect", (const char[]){
#embed "../../scripts/faults/misdirect.lua"
        , '\0'}},
    {"faults", "nvme-reset", (const char[]){
#embed "../../scripts/faults/nvme-reset.lua"
        , '\0'}},
    {"faults", "protect", (const char[]){
#embed "../../scripts/faults/protect.lua"
        , '\0'}},
    {"faults", "rate-limit", (const char[]){
#embed "../../scripts/faults/rate-limit.lua"
        , '\0'}},
    {"faults", "reorder", (const char[]){
#embed "../../scripts/faults/reorder.lua"
        , '\0'}},
    {"faults", "smr-dm", (const char[]){
#embed "../../scripts/faults/smr-dm.lua"
        , '\0'}},
    {"faults", "spinning", (const char[]){
#embed "../../scripts/faults/spinning.lua"
        , '\0'}},
    {"faults", "stale", (const char[]){
#embed "../../scripts/faults/stale.lua"
        , '\0'}},
    {"faults", "verify", (const char[]){
#embed "../../scripts/faults/verify.lua"
        , '\0'}},
    {"faults", "wear", (const char[]){
#embed "../../scripts/faults/wear.lua"
        , '\0'}},
    {"targets", "concat", (const char[]){
#embed "../../scripts/targets/concat.lua"
        , '\0'}},
    {"targets", "log", (const char[]){
#embed "../../scripts/targets/log.lua"
        , '\0'}},
    {"targets", "mirror", (const char[]){
#embed "../../scripts/targets/mirror.lua"
        , '\0'}},
    {"targets", "offset", (const char[]){
#embed "../../scripts/targets/offset.lua"
        , '\0'}},
    {"targets", "pattern", (const char[]){
#embed "../../scripts/targets/pattern.lua"
        , '\0'}},
    {"targets", "sparse", (const char[]){
#embed "../../scripts/targets/sparse.lua"
        , '\0'}},
    {"targets", "stripe", (const char[]){
#embed "../../scripts/targets/stripe.lua"
        , '\0'}},
    {"targets", "thin-queue", (const char[]){
#embed "../../scripts/targets/thin-queue.lua"
        , '\0'}},
    {"targets", "thin", (const char[]){
#embed "../../scripts/targets/thin.lua"
        , '\0'}},
};

size_t us_shipped_count(void) {
    return sizeof shipped / sizeof *shipped;
}

const struct us_shipped *us_shipped_at(size_t index) {
    return &shipped[index];
}
