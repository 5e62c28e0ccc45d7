# Makes a small data set, sorts it, and tells the mean of each group.
file=$(mktemp)
awk 'BEGIN { srand(7); for (n = 0; n < 200000; n++) printf "%s,%d\n", substr("abcd", int(rand() * 4) + 1, 1), rand() * 1000 }' >"$file"
echo "$(wc -l <"$file") rows"
sort "$file" | awk -F, '{ sum[$1] += $2; rows[$1]++ } END { for (g in sum) printf "%s %d rows, mean %.1f\n", g, rows[g], sum[g] / rows[g] }' | sort
rm "$file"
