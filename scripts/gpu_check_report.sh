#!/usr/bin/env bash
# Makes gpu_check.json and gpu_check.md of what gpu_check.sh has noted so far in DIR/gpu_check.jsonl, a line for each check; also of
# a run that was killed: a torn last line is left out. The last line printed counts the checks.
#
# usage: gpu_check_report.sh DIR           exit code: 1 if a check failed
set -euo pipefail
dir=${1:?"usage: gpu_check_report.sh DIR"}
lines=$(grep '^{"name": .*}$' "$dir/gpu_check.jsonl" || true)

count() {
  grep -c "^{\"name\": \"[^\"]*\", \"status\": \"$1\"" <<<"$lines" || true
}
passed=$(count passed) failed=$(count failed) skipped=$(count skipped)

{
  printf '{"passed": %d, "failed": %d, "skipped": %d, "checks": [\n' "$passed" "$failed" "$skipped"
  sed '$!s/$/,/' <<<"$lines"
  printf ']}\n'
} >"$dir/gpu_check.json.part"
mv "$dir/gpu_check.json.part" "$dir/gpu_check.json"

# Figures are numbers and strings; those of an op's time, "op forward_ms", get a table of their own.
awk '
  # The value after "key": in the line; strings without their quotes, escapes undone.
  function text_of(key, from, value) {
    from = index($0, "\"" key "\": \"")
    if (!from) return ""
    value = substr($0, from + length(key) + 5)
    match(value, /^([^"\\]|\\.)*/)
    value = substr(value, 1, RLENGTH)
    gsub(/\\"/, "\"", value)
    gsub(/\\\\/, "\\", value)
    gsub(/\|/, "\\|", value)
    return value
  }
  function figures_of(from, value, item, n, items, shown, i, parts) {
    from = index($0, "\"figures\": {")
    value = substr($0, from + 12)
    value = substr(value, 1, index(value, "}") - 1)
    n = split(value, items, /, "/)
    for (i = 1; i <= n; i++) {
      item = items[i]
      gsub(/"/, "", item)
      sub(/: /, " ", item)
      if (item ~ / (forward|backward)_ms /) {
        split(item, parts, " ")
        if (!(parts[1] in seen)) { seen[parts[1]] = 1; ops[++n_ops] = parts[1] }
        ms[parts[1] " " parts[2]] = parts[3]
        timed = text_of("name")
      } else shown = shown (shown == "" ? "" : "; ") item
    }
    return shown
  }
  BEGIN {
    print "| check | result | seconds | figures | command |"
    print "|---|---|---|---|---|"
  }
  /^\{"name": .*\}$/ {
    match($0, /"seconds": [0-9.]+/)
    seconds = substr($0, RSTART + 11, RLENGTH - 11)
    shown = figures_of()
    if (match(shown, /img_per_s [0-9.]+/)) speed[text_of("name")] = substr(shown, RSTART + 10, RLENGTH - 10)
    note = text_of("note")
    if (note != "") shown = shown (shown == "" ? "" : "; ") note
    printf "| %s | %s | %s | %s | `%s` |\n", text_of("name"), text_of("status"), seconds, shown, text_of("command")
  }
  function compare_speeds(batch, types, n, i, name, heading) {
    n = split("bf16 tf32 fp32", types, " ")
    for (batch = 2; batch <= 12; batch += 10)
      for (i = 1; i <= n; i++) {
        name = "batch_" batch "_" types[i]
        if (!(("r50_" name) in speed) || !(("torchvision_" name) in speed)) continue
        if (!heading++) print "\nImages a second at 800x1333:\n\n| | here | torchvision | ratio |\n|---|---|---|---|"
        printf "| batch %d, %s | %.1f | %.1f | %.2fx |\n", batch, types[i], speed["r50_" name], speed["torchvision_" name],
          speed["r50_" name] / speed["torchvision_" name]
      }
  }
  END {
    compare_speeds()
    if (!n_ops) exit
    print "\nTime of each op in a step (" timed "), all its layers together:\n"
    print "| op | forward ms | backward ms |"
    print "|---|---|---|"
    for (i = 1; i <= n_ops; i++) printf "| %s | %s | %s |\n", ops[i], ms[ops[i] " forward_ms"], ms[ops[i] " backward_ms"]
  }' <<<"$lines" >"$dir/gpu_check.md.part"
mv "$dir/gpu_check.md.part" "$dir/gpu_check.md"

echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
