#!/bin/sh
# Turns the package lists of a Debian machine (some 60,000 packages) into an NDJSON feed.
#
#   examples/feeds/debian-packages.sh > packages.ndjson
#   crumbd serve --feed 'file:packages.ndjson?follow=true'
#
# Needs only what every Debian installation has: apt and awk. Where the lists are missing, run
# `apt-get update` once. One record a package: the key is debian/NAME/ARCHITECTURE.
set -eu

apt-cache dumpavail | LC_ALL=C awk '
  function quote(text) {
    gsub(/\\/, "\\\\", text); gsub(/"/, "\\\"", text); gsub(/\t/, "\\t", text)
    gsub(/[\001-\037]/, " ", text)
    return "\"" text "\""
  }
  function number(text) { return text ~ /^[0-9]+$/ ? text : "null" }
  function list(text,   n, i, parts, out) {
    n = split(text, parts, /, */)
    for (i = 1; i <= n; i++) out = out (i > 1 ? "," : "") quote(parts[i])
    return "[" out "]"
  }
  function flush_package() {
    if (field["Package"] != "") {
      printf "{\"type\":\"put\",\"key\":%s,\"value\":{\"version\":%s,\"section\":%s,\"size\":%s,\"installed_kib\":%s,\"depends\":%s,\"description\":%s}}\n",
        quote("debian/" field["Package"] "/" field["Architecture"]), quote(field["Version"]),
        quote(field["Section"]), number(field["Size"]), number(field["Installed-Size"]),
        list(field["Depends"]), quote(field["Description"])
      count++
    }
    split("", field)
  }
  /^$/ { flush_package(); next }
  /^[^ \t].*:/ { name = $0; sub(/:.*/, "", name); text = $0; sub(/^[^:]*: */, "", text); field[name] = text }
  END {
    flush_package()
    if (count == 0) { print "no packages are listed: run apt-get update first" > "/dev/stderr"; exit 1 }
  }
'
