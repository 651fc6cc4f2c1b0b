SELECT
  (SELECT coalesce(json_agg(json_strip_nulls(json_build_object('name', rolname, 'attributes',
      nullif(array_remove(ARRAY[CASE WHEN rolcreatedb THEN 'CREATEDB' END, CASE WHEN rolcreaterole THEN 'CREATEROLE' END,
                                CASE WHEN rolbypassrls THEN 'BYPASSRLS' END], NULL), '{}'),
      'connection_limit', nullif(rolconnlimit, -1))) ORDER BY rolname), '[]')
   FROM pg_roles
   WHERE rolcanlogin AND NOT rolsuper AND NOT rolreplication AND rolname <> ALL (string_to_array(%(own_accounts)s, ','))) AS users,
  (SELECT coalesce(json_agg(json_strip_nulls(json_build_object('name', datname, 'owner', pg_get_userbyid(datdba),
      'connection_limit', nullif(datconnlimit, -1))) ORDER BY datname), '[]')
   FROM pg_database WHERE datallowconn AND NOT datistemplate AND datname <> 'postgres') AS databases
