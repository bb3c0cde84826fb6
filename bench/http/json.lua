-- For wrk: POST 1 KB of JSON.
local item = '{"sku":"ABC-%05d","name":"A rather ordinary thing %d","count":%d,"price":%d.25,"gift":false}'
local items = {}
for i = 1, 9 do
    items[i] = item:format(i * 7919, i, i, i * 10 + 3)
end
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = '{"order":123456,"customer":"Ada Lovelace","email":"ada@example.com","paid":true,"total":1234.5,' ..
    '"items":[' .. table.concat(items, ",") .. '],"note":"leave it at the door, please: it is dry there"}'
