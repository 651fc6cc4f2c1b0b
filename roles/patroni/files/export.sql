SELECT
  (SELECT coalesce(json_agg(json_build_object('name', rolname, 'attributes', array_remove(ARRAY[
      CASE WHEN rolcreatedb THEN 'CREATEDB' END, CASE WHEN rolcreaterole THEN 'CREATEROLE' END,
      CASE WHEN rolbypassrls THEN 'BYPASSRLS' END], NULL)) ORDER BY rolname), '[]')
   FROM pg_roles WHERE rolcanlogin AND NOT rolsuper AND NOT rolreplication AND rolname NOT IN ('rewind', 'pgbouncer_auth')) AS users,
  (SELECT coalesce(json_agg(json_build_object('name', datname, 'owner', pg_get_userbyid(datdba)) ORDER BY datname), '[]')
   FROM pg_database WHERE NOT datistemplate AND datname <> 'postgres') AS databases
